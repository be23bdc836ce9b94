// One process at a time writes to a data folder: a file in it names the process, and binds for as long as that lives.
import { readFileSync, renameSync, rmSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
