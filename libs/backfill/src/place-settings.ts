// Where backfills may read and write, as it is configured: the same for the API, which tells early, and the coordinators, which hold to it.
import Type, { type Static } from 'typebox';
import { Places } from './places.ts';

const lists = 'Folders, and s3://bucket/prefix, separated by commas';
const ofTenant = '{tenant} in them stands for the name of the tenant';

/** To be spread into the schemas of the API and of dispatchers. */
export const placeSettings = {
  backfillPlaces: Type.String({ default: '', description: `${lists}, that backfills may read and write; ${ofTenant}` }),
  backfillInputs: Type.String({ default: '', description: `${lists}, that backfills may only read; ${ofTenant}` }),
};
const PlaceSettings = Type.Object(placeSettings);
export type PlaceSettings = Static<typeof PlaceSettings>;

/** A tenant's places. Tenants whose settings do not name them apart share one set, and read each other's files. */
export function placesFor({ backfillPlaces, backfillInputs }: PlaceSettings, tenant: string): Places {
  const listed = (setting: string) => setting.split(',').map((place) => place.trim().replaceAll('{tenant}', tenant)).filter((place) => place !== '');
  const outputs = listed(backfillPlaces);
  return new Places({ inputs: [...outputs, ...listed(backfillInputs)], outputs });
}
