// Blocks a process's event loop, through its inspector.
import { once } from 'node:events';
import type { Service } from '@millrace/process';
import type { History } from './history.ts';

/** Opens the inspector; the function that is returned blocks the loop, and resolves once it runs again. */
export async function eventLoopOf({ name, pid }: Service, history: History): Promise<(ms: number) => Promise<void>> {
  const opened = history.next(name, 'Debugger listening on ');
  process.kill(pid as number, 'SIGUSR1');
  const socket = new WebSocket((await opened).split(' ').at(-1) as string);
  await once(socket, 'open');
  return async (ms) => {
    const expression = `for (const end = Date.now() + ${ms}; Date.now() < end;);`;
    // https://chromedevtools.github.io/devtools-protocol/v8/Runtime/#method-evaluate
    socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression } }));
    await once(socket, 'message');
    socket.close();
  };
}
