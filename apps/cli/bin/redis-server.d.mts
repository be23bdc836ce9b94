/** The path of a redis-server or valkey-server of version 6.2 or newer, or undefined. Installs nothing. */
export declare function findRedisServer(env?: NodeJS.ProcessEnv): string | undefined;
