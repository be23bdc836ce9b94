// Blocks a process's event loop, through its inspector.
import { once } from 'node:events';
import type { Service } from '@millrace/process';
import type { History } from './history.ts';

/** Where inspectors listen, by process: each says it once, when it is opened. */
const inspectors = new Map<number, Promise<string>>();

/** Opens the inspector; the function that is returned blocks the loop, and resolves once it runs again. */
export async function eventLoopOf({ name, pid }: Service, history: History): Promise<(ms: number) => Promise<void>> {
  const socket = new WebSocket(await inspectorOf(name, pid as number, history));
  await once(socket, 'open');
  return async (ms) => {
    const expression = `for (const end = Date.now() + ${ms}; Date.now() < end;);`;
    // https://chromedevtools.github.io/devtools-protocol/v8/Runtime/#method-evaluate
    socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression } }));
    await once(socket, 'message');
    socket.close();
  };
}

function inspectorOf(name: string, pid: number, history: History): Promise<string> {
  const known = inspectors.get(pid);
  if (known) return known;
  const url = history.next(name, 'Debugger listening on ').then((line) => line.split(' ').at(-1) as string);
  inspectors.set(pid, url);
  process.kill(pid, 'SIGUSR1');
  return url;
}
