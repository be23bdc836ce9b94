// What makes it so that a pool has as many workers as were decided.

export interface Actuator {
  /** Workers of the pool that are ordered, whether they start or run; not those that drain. */
  observed(pool: string): Promise<number>;
  /** Orders so many; called at every poll. Resolves once they are ordered, and not once they are there. */
  scale(pool: string, desired: number): Promise<void>;
  /** Another autoscaler acts for the pool; called at every poll meanwhile. */
  standBy(pool: string): Promise<void>;
  /** Ends with the process what must not outlive it. */
  stop(): Promise<void>;
}
