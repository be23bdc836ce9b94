// The settings of every process that talks to Redis, to be spread into its schema.
import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import Type, { type Static } from 'typebox';
import { redisUrlPattern } from './redis-url.ts';

export const redisSettings = {
  redisUrl: Type.String({ env: 'REDIS_URL', secret: true, default: 'redis://127.0.0.1:6379', pattern: redisUrlPattern, description: 'Redis, Redis Cluster or Sentinel to queue in' }),
  redisTlsCaFile: Type.Optional(Type.String({ description: 'PEM file of the authorities that may sign the certificates of Redis, instead of the public ones' })),
  redisTlsCertFile: Type.Optional(Type.String({ description: 'PEM file of the certificate to show to Redis' })),
  redisTlsKeyFile: Type.Optional(Type.String({ description: 'PEM file of the key of that certificate' })),
};
const RedisSettings = Type.Object(redisSettings);
export type RedisSettings = Static<typeof RedisSettings>;

/** What TLS needs, from the files that the settings name. Throws where one cannot be read. */
export function tlsOf({ redisTlsCaFile, redisTlsCertFile, redisTlsKeyFile }: RedisSettings): ConnectionOptions {
  const read = (file: string | undefined) => (file === undefined ? undefined : readFileSync(file));
  return { ca: read(redisTlsCaFile), cert: read(redisTlsCertFile), key: read(redisTlsKeyFile) };
}
