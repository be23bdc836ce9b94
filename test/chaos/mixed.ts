// All the faults together, for a given time.
import { type Fault, faults } from './faults.ts';
import { seconds } from './stage.ts';

const mostPauseSeconds = 10;
/** Half an hour's predictions must fit into the book of the clients, and be read twice. */
const perSecond = 25;

/** One fault after the other, as the seed draws them, some while the system still recovers from the one before. */
export function mixed(minutes: number): Fault {
  const drawn = faults.filter(({ name, clocksOffMs, bulk }) => name !== 'none' && !clocksOffMs && !bulk);
  return {
    name: 'mixed', title: `any of these, at random moments, for ${minutes} minutes`, proxied: true, told: true, takesWorkers: true, endsProcesses: true, perSecond,
    async strike(stage, form) {
      const { random } = form;
      const over = performance.now() + 60_000 * minutes;
      const ends: number[] = [];
      while (performance.now() < over) {
        await seconds(mostPauseSeconds * random());
        const fault = drawn[Math.floor(random() * drawn.length)] as Fault;
        stage.history.hear('chaos', { msg: fault.name });
        const moments = await fault.strike(stage, { ...form, long: false });
        if (fault.endsProcesses) ends.push(...moments);
      }
      return ends;
    },
  };
}
