export { type Decision, decide, initialState, type Limits, type Reading, type Reason, type State } from './policy.ts';
