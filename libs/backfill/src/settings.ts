// Settings of processes that take part in backfills. Apart from the rest of the library, whose import alone takes a second and 77 MB.
import Type, { type Static } from 'typebox';
import { Places } from './places.ts';

/** To be spread into the schemas of workers and dispatchers. */
export const storageSettings = {
  backfillWork: Type.Optional(Type.String({ description: 'Folder, or s3://bucket/prefix, that all workers and dispatchers share to work on backfills; without it this process takes no part in them' })),
  backfillThreads: Type.Integer({ default: 1, minimum: 1, maximum: 256, description: 'Threads that read and write files of backfills' }),
  backfillMemoryBytes: Type.Integer({ default: 512 * 1024 ** 2, minimum: 64 * 1024 ** 2, description: 'Memory for reading and writing files of backfills' }),
  s3Endpoint: Type.Optional(Type.String({ env: 'AWS_ENDPOINT_URL_S3', description: 'Object store for s3://, where it is not Amazon’s' })),
  s3Region: Type.String({ env: 'AWS_REGION', default: 'us-east-1', description: 'Its region' }),
  s3AccessKey: Type.Optional(Type.String({ env: 'AWS_ACCESS_KEY_ID', description: 'Key to it' })),
  s3SecretKey: Type.Optional(Type.String({ env: 'AWS_SECRET_ACCESS_KEY', secret: true, description: 'The key’s secret' })),
  s3SessionToken: Type.Optional(Type.String({ env: 'AWS_SESSION_TOKEN', secret: true, description: 'For a key that is lent for a while' })),
};
const StorageSettings = Type.Object(storageSettings);
export type StorageSettings = Static<typeof StorageSettings>;

const lists = 'Folders, and s3://bucket/prefix, separated by commas; {tenant} in them stands for the name of the tenant';

/** Where backfills may read and write, to be spread into the schemas of the API, which tells early, and of dispatchers, which hold to it. */
export const placeSettings = {
  backfillInputs: Type.String({ default: '', description: `What backfills may read. ${lists}` }),
  backfillOutputs: Type.String({ default: '', description: `Where backfills may write. ${lists}` }),
};
const PlaceSettings = Type.Object(placeSettings);
export type PlaceSettings = Static<typeof PlaceSettings>;

/** The places of one tenant. Where the settings do not tell tenants apart, they read and write each other's files. */
export function placesOf(tenant: string, { backfillInputs, backfillOutputs }: PlaceSettings): Places {
  const list = (places: string) => places.split(',').map((place) => place.trim().replaceAll('{tenant}', tenant)).filter(Boolean);
  return new Places({ inputs: list(backfillInputs), outputs: list(backfillOutputs) });
}
