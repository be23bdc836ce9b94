/** The path of a redis-server or valkey-server of version 6.2 or newer, or undefined. Installs nothing. */
export declare function findRedisServer(env?: NodeJS.ProcessEnv): string | undefined;

/** The folders for a private Redis, the preferred one first. */
export declare function privateFolders(env?: NodeJS.ProcessEnv): string[];
