#!/usr/bin/env node
// The launcher: sets up what is missing, then runs src/main.ts on the pinned Node and ends as it ends.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { reportAndExit } from './command.mjs';
import { privateFolders } from './private-folders.mjs';
import { setUp } from './setup.mjs';

const startsRedis = new Set(['up', 'demo', 'bench']);

const commandLine = process.argv.slice(2);
const command = commandLine.find((word) => !word.startsWith('-')) ?? '';
// A backfill without an API starts all that it needs.
const backfillsHere = command === 'backfill' && commandLine.some((word) => /^--input(=|$)/.test(word)) && !process.env.MILLRACE_URL && !commandLine.some((word) => /^--url(=|$)/.test(word));
const { node, redisServer, wrk } = await setUp({ redis: startsRedis.has(command) || backfillsHere, wrk: command === 'bench' }).catch(reportAndExit);

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const child = spawn(node, [main, ...commandLine], {
  // By the IPC channel it learns of the launcher's death, even by SIGKILL.
  stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  env: {
    // Node keeps there what it has made of the sources: processes start with little more than half the work.
    NODE_COMPILE_CACHE: privateFolders('compiled')[0],
    ...process.env,
    ...(redisServer !== undefined && { MILLRACE_REDIS_SERVER: redisServer }),
    ...(wrk !== undefined && { MILLRACE_WRK: wrk }),
  },
});

// A terminal sends Ctrl-C to the child too. Sent on, it would arrive twice, and a second one asks for haste.
const onTerminal = [process.stdin, process.stdout, process.stderr].some((stream) => stream.isTTY);
process.on('SIGINT', () => onTerminal || child.kill('SIGINT'));
process.on('SIGTERM', () => child.kill('SIGTERM'));

child.on('exit', (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 128 + constants.signals[signal];
});
