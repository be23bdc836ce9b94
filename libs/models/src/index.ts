export * from './manifest.ts';
export * from './model-refused.ts';
export * from './model.ts';
export * from './onnx-header.ts';
export * from './repository.ts';
export type { RepositoryChange } from './catalog.ts';
