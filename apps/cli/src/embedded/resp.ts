// One command to a Redis on this machine over a connection of its own, for the time before any client is wanted.
import { connect } from 'node:net';

/**
 * Sends one command and resolves with the reply as it came, its type character included; only simple, error, integer
 * and bulk replies end it. RESP2: https://redis.io/docs/latest/develop/reference/protocol-spec/
 */
export async function exchange(socketPath: string, command: readonly string[], signal?: AbortSignal): Promise<string> {
  const socket = connect({ path: socketPath, signal });
  try {
    socket.setEncoding('utf8').write(encode(command));
    let reply = '';
    for await (const text of socket) {
      reply += text;
      if (isWhole(reply)) return reply;
    }
    throw new Error('Redis closed the connection before it replied');
  } finally {
    socket.destroy();
  }
}

function encode(command: readonly string[]): string {
  const words = command.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
  return `*${command.length}\r\n${words.join('')}`;
}

function isWhole(reply: string): boolean {
  const firstLineEnd = reply.indexOf('\r\n');
  if (firstLineEnd < 0) return false;
  const bulkBytes = reply.startsWith('$') ? Number(reply.slice(1, firstLineEnd)) : -1;
  return bulkBytes < 0 || Buffer.byteLength(reply.slice(firstLineEnd + 2)) >= bulkBytes + 2;
}
