export type { Reason } from './need.ts';
export { type Decision, decide, initialState, type State } from './policy.ts';
export type { Limits, Reading } from './reading.ts';
