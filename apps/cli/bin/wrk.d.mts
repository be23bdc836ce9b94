/** The path of a wrk that runs: on PATH, else a private one, which it installs where apt can. Throws where there is none. */
export declare function findOrInstallWrk(env?: NodeJS.ProcessEnv): string;
