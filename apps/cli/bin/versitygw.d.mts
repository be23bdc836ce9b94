/** The path of a versitygw: on PATH, else a private one; undefined where there is none. */
export declare function findVersitygw(env?: NodeJS.ProcessEnv): string | undefined;
