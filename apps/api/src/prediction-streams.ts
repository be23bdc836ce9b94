// The event streams of single predictions: the present state, then every later one until the end, which waiters tell of at once.
import { type Address, eventOf, MillraceError, type Outcome, parsePredictionId, type Pending, type Prediction, presentPrediction } from '@millrace/protocol';
import { type Progress, readProgress, type Redis, rethrowUnavailable } from '@millrace/queue';
import type { EventStream, StreamEvent } from './event-stream.ts';
import { type Predictions, revisionOf } from './predictions.ts';
import type { Waiters, Wake } from './waiters.ts';

export interface PredictionStreamsOptions {
  readonly redis: Redis;
  readonly predictions: Predictions;
  readonly waiters: Waiters;
  readonly onError: (error: unknown) => void;
}

export interface Follow {
  readonly id: string;
  readonly tenant: string;
  /** What the client was told last, where it has been here before. */
  readonly lastEventId: string;
  readonly openStream: () => EventStream;
}

/** One stream that has not been told the end. */
interface Follower extends Pick<Follow, 'id' | 'tenant'> {
  readonly address: Address;
  readonly stream: EventStream;
  /** As it was accepted. */
  readonly pending: Pending;
  /** How far its client knows the prediction to be. */
  told: number;
}

/** How soon a stream tells that a prediction runs, or waits for another attempt. */
const lookEveryMs = 1000;

export class PredictionStreams {
  readonly #options: PredictionStreamsOptions;
  readonly #followers = new Set<Follower>();
  #looking = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: PredictionStreamsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => { this.#look().catch(this.#options.onError); }, lookEveryMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Opens a stream; undefined where its client has been told the end. Throws as `Predictions.find`. */
  async open({ id, tenant, lastEventId, openStream }: Follow): Promise<EventStream | undefined> {
    const { predictions, waiters } = this.#options;
    const { known } = await predictions.find(id, tenant);
    if ('outcome' in known) {
      const end = endOf(presentPrediction(id, known));
      if (end.id === lastEventId) return undefined;
      return endWith(openStream(), end);
    }
    const address = parsePredictionId(id) as Address;
    const follower: Follower = { id, tenant, address, stream: openStream(), pending: known, told: stepOfRevision(lastEventId) };
    const { stream } = follower;
    const wake: Wake = (_id, reply) => {
      if (reply === undefined) stream.end();
      else endWith(stream, endOf(JSON.parse(reply) as Prediction, reply));
    };
    this.#followers.add(follower);
    stream.body.once('close', () => {
      this.#followers.delete(follower);
      waiters.forget(id, wake);
    });
    tell(follower, { state: known.state, attempts: known.attempts ?? 0 });
    try {
      if (await waiters.expectQueued(address, id, tenant, wake)) await this.#tellEnd(follower);
    } catch (error) {
      stream.body.destroy();
      rethrowUnavailable(error);
    }
    return stream;
  }

  /** Asks how far they have come, all at once. */
  async #look(): Promise<void> {
    if (this.#looking || this.#followers.size === 0) return;
    this.#looking = true;
    try {
      const followers = [...this.#followers];
      const progress = await readProgress(this.#options.redis, followers.map(({ address }) => address));
      await Promise.all(followers.filter(({ stream }) => stream.isOpen).map(async (follower) => {
        const now = progress.get(follower.address);
        if (now) tell(follower, now);
        // Ended, so a wake-up is under way or was lost; or Redis has lost it.
        else await this.#tellEnd(follower);
      }));
    } finally {
      this.#looking = false;
    }
  }

  async #tellEnd({ id, tenant, stream }: Follower): Promise<void> {
    try {
      const { known } = await this.#options.predictions.find(id, tenant);
      if ('outcome' in known) endWith(stream, endOf(presentPrediction(id, known)));
    } catch (error) {
      if (!(error instanceof MillraceError) || error.code === 'queue-unavailable') throw error;
      // It is gone, as its client will be told when it comes back.
      stream.end();
    }
  }
}

/** A number that grows: queued, running, queued for the second attempt, running again and so on. */
function stepOf({ state, attempts }: Progress): number {
  return 2 * attempts + (state === 'running' ? 1 : 0);
}

function stepOfRevision(revision: string): number {
  const [, state, attempts] = /^(queued|running)-(\d{1,3})$/.exec(revision) ?? [];
  return state === undefined ? -1 : stepOf({ state: state as Progress['state'], attempts: Number(attempts) });
}

/** Tells a state that is further than the one before. A bundle that one worker hands to another is not told of. */
function tell(follower: Follower, progress: Progress): void {
  const step = stepOf(progress);
  if (step <= follower.told) return;
  follower.told = step;
  const prediction = presentPrediction(follower.id, { ...follower.pending, ...progress });
  follower.stream.send({ id: revisionOf(prediction), type: 'status', data: JSON.stringify(prediction) });
}

function endWith(stream: EventStream, end: StreamEvent): EventStream {
  stream.send(end);
  stream.end();
  return stream;
}

/** `text`: the prediction as JSON, where it came so: what was parsed of it may have lost digits. */
function endOf(prediction: Prediction, text = JSON.stringify(prediction)): StreamEvent {
  return { id: revisionOf(prediction), type: eventOf[prediction.status as Outcome].slice('prediction.'.length), data: text };
}
