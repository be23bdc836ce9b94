// Bodies of routes with `attachValidation`, which name every fault at once: they may not have their schema's form.
import { FaultList } from '@millrace/protocol';
import type { FastifyRequest } from 'fastify';
import { faultsOf } from './problems.ts';

/** As much of the body as is left, and what the schema found wrong with it. */
export function formOf<Body>({ body, validationError }: Pick<FastifyRequest, 'body' | 'validationError'>): { body: Partial<Body>; faults: FaultList } {
  const faults = new FaultList();
  for (const { pointer, detail } of faultsOf(validationError?.validation ?? [])) faults.add(pointer, detail);
  return { body: objectOr<Body>(body), faults };
}

/** The value, or an empty object where it is none. */
export function objectOr<Body>(value: unknown): Partial<Body> {
  return typeof value === 'object' && value !== null ? value : {};
}

/** The members of a body that no fault stands in, nor in anything below them. */
export function soundMembers<Body extends object>(body: Body, { faults }: FaultList): Partial<Body> {
  const faulty = new Set(faults.map(({ pointer }) => pointer.split('/')[1]));
  return Object.fromEntries(Object.entries(body).filter(([name]) => !faulty.has(name))) as Partial<Body>;
}
