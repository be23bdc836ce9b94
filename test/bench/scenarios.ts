// The traffic that `npm run bench -- scaling` plays. One replica does 10 rows per second.
import { noisy, onlineTraffic, onOff, type Traffic, withBackfill } from '@millrace/scaling/simulation';

export interface Scenario {
  readonly name: string;
  readonly says: string;
  readonly startSeconds: number;
  readonly minReplicas: number;
  /** That it begins with. */
  readonly replicas: number;
  readonly traffic: (random: () => number) => Traffic;
}

const minutes = 60;
const hours = 3600;
/** Of one thread, beside the micro-batch's own. */
export const rowSeconds = 0.2;
const startSeconds = 5;

export const scenarios: readonly Scenario[] = [
  {
    name: 'steady', says: '20 rows/s for two hours, times noise of 20 % that lasts for 10 s', startSeconds, minReplicas: 1, replicas: 3,
    traffic: (random) => online({ seconds: 2 * hours, rate: noisy(() => 20, { seconds: 2 * hours, stepSeconds: 10, variation: 0.2 }, random), peak: 60 }, random),
  },
  {
    name: 'step', says: '40 minutes of 5 rows/s, then 20 of 50', startSeconds, minReplicas: 1, replicas: 1, traffic: step,
  },
  {
    name: 'spike', says: 'an hour of 5 rows/s, but a minute of 75', startSeconds, minReplicas: 1, replicas: 1,
    traffic: (random) => online({ seconds: hours, rate: (second) => (second < 30 * minutes || second >= 31 * minutes ? 5 : 75), peak: 75 }, random),
  },
  {
    name: 'diurnal', says: 'a day in three hours: 2 to 30 rows/s, as a sine', startSeconds, minReplicas: 1, replicas: 1,
    traffic: (random) => online({ seconds: 3 * hours, rate: (second) => 16 - 14 * Math.cos((2 * Math.PI * second) / (3 * hours)), peak: 30 }, random),
  },
  {
    name: 'backfill', says: '10 rows/s online, and 30,000 bulk rows at the 10th minute', startSeconds, minReplicas: 1, replicas: 2,
    traffic: (random) => withBackfill(online({ seconds: 40 * minutes, rate: () => 10, peak: 10 }, random), { at: 10 * minutes, rows: 30_000, workSeconds: rowSeconds }),
  },
  {
    name: 'cold start', says: 'the step, where a replica takes 60 s to start', startSeconds: 60, minReplicas: 1, replicas: 1, traffic: step,
  },
  {
    name: 'azure code', says: 'an hour shaped like the Azure LLM inference trace 2023, code', startSeconds, minReplicas: 0, replicas: 0, traffic: azureCode,
  },
];

/**
 * https://github.com/Azure/AzurePublicDataset/blob/master/AzureLLMInferenceDataset2023.md, the file `code`: 8,819 requests in
 * 3,436 s. Its 57 gaps of more than 5 s are 43 s long on average, so it is silent for 72 % of the time, and in between come
 * 9.1 requests per second for 17 s. Tokens generated, which the cost of a request follows, vary by 2.1 of their mean.
 */
function azureCode(random: () => number): Traffic {
  const shape = { seconds: hours, onSeconds: 17, offSeconds: 43 };
  return onlineTraffic({ seconds: hours, rate: onOff(9.1, shape, random), peak: 9.1, workSeconds: 1.5 * rowSeconds, workVariation: 2.1 }, random);
}

function step(random: () => number): Traffic {
  return online({ seconds: hours, rate: (second) => (second < 40 * minutes ? 5 : 50), peak: 50 }, random);
}

function online(arrivals: { seconds: number; rate: (second: number) => number; peak: number }, random: () => number): Traffic {
  return onlineTraffic({ ...arrivals, workSeconds: rowSeconds, workVariation: 0 }, random);
}
