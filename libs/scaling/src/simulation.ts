export { policyScaler } from './policy-scaler.ts';
export { fixedFleet, hpaOnCpu, kedaOnListLength } from './rivals.ts';
export { type Outcome, type PoolShape, type Scaler, simulate, type View } from './simulator.ts';
export { noisy, onlineTraffic, onOff, type Traffic, withBackfill } from './traffic.ts';
