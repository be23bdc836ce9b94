/** The folders that a private program may stand in, the preferred one first. */
export declare function privateFolders(name: string, env?: NodeJS.ProcessEnv): string[];
