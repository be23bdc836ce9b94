export { InferenceEngine, type EngineOptions, type SessionLoaded, type SessionReleased } from './engine.ts';
export { labelsOf } from './labels.ts';
export type { BatchItem, ItemOutcome } from './stack.ts';
