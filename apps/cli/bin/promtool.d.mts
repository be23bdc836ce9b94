/** The path of a promtool that runs: on PATH, else a private one, which it installs where apt can. Throws where there is none. */
export declare function findOrInstallPromtool(env?: NodeJS.ProcessEnv): string;
