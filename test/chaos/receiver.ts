// A receiver of webhooks, as a user would write it, in a process of its own: verifies each with the public library, writes it
// down, and answers only then. Arguments: port, file, and the secret of each path as JSON.
import { appendFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { Webhook } from 'standardwebhooks';
import type { Told } from './audience.ts';

const [port, file = '', secrets = '{}'] = process.argv.slice(2);
const webhooks = new Map(Object.entries(JSON.parse(secrets) as Record<string, string>).map(([path, secret]) => [path, new Webhook(secret)]));

async function take(request: IncomingMessage): Promise<boolean> {
  const { headers, url: path = '' } = request;
  const body = await text(request);
  const { type, data } = JSON.parse(body) as { type: string; data: { id: string } };
  const verified = isRight(path, body, headers as Record<string, string>);
  const told: Told = { at: Date.now(), path, id: String(headers['webhook-id']), event: type, predictionId: data.id, verified };
  appendFileSync(file, `${JSON.stringify(told)}\n`);
  return verified;
}

function isRight(path: string, body: string, headers: Record<string, string>): boolean {
  try {
    webhooks.get(path)?.verify(body, headers);
    return webhooks.has(path);
  } catch {
    return false;
  }
}

const server = createServer((request, response) => {
  take(request).then((verified) => response.writeHead(verified ? 204 : 400).end(), () => response.destroy());
});
server.listen(Number(port), '127.0.0.1', () => process.stdout.write('{"msg":"receiver is ready"}\n'));
process.on('disconnect', () => process.exit());
