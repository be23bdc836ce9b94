/** The folders that a private program may stand in, the preferred one first. */
export declare function privateFolders(name: string, env?: NodeJS.ProcessEnv): string[];
/** The folders of PATH. */
export declare function pathFolders(env: NodeJS.ProcessEnv): string[];
/** The folders that a program may stand in: those of PATH, then its private ones, of this name. */
export declare function programFolders(name: string, env?: NodeJS.ProcessEnv): string[];
