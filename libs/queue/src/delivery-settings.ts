// The settings of every process that makes or sends deliveries, to be spread into its schema.
import Type from 'typebox';

export const deliverySettings = {
  webhookAllowedNetworks: Type.String({ default: '', description: 'Networks (CIDR, separated by commas) that webhooks may go to although they are not public, also by http and on any port' }),
  deliveryRetentionSeconds: Type.Integer({ default: 604_800, minimum: 60, description: 'Seconds that dead deliveries are kept, and pending ones tried; delivered ones are kept for a day at most' }),
};

/** The networks of the setting. */
export function allowedNetworks({ webhookAllowedNetworks }: { readonly webhookAllowedNetworks: string }): string[] {
  return webhookAllowedNetworks.split(',').map((network) => network.trim()).filter((network) => network !== '');
}
