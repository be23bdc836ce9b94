// Blocks a process's event loop, through its inspector.
import { once } from 'node:events';
import type { History } from './history.ts';

/** Resolves once it runs again. https://chromedevtools.github.io/devtools-protocol/v8/Runtime/#method-evaluate */
export async function blockEventLoop(history: History, service: string, pid: number, ms: number): Promise<void> {
  const opened = history.next(service, 'Debugger listening on ');
  process.kill(pid, 'SIGUSR1');
  const socket = new WebSocket((await opened).split(' ').at(-1) as string);
  await once(socket, 'open');
  socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: `for (const end = Date.now() + ${ms}; Date.now() < end;);` } }));
  await once(socket, 'message');
  socket.close();
}
