// What onnxruntime-web's WebAssembly computes of pictures, under Node.
//
//   node web_answers.mjs NODE_MODULES < jobs.json
//
// As tests/elsewhere.py asks: on stdout one JSON line, [[outputs of each picture], ...].
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.argv[2], 'from.js'));
const ort = require('onnxruntime-web');
ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';

async function answers({ model, pictures, shape }) {
  const session = await ort.InferenceSession.create(readFileSync(model), {
    executionProviders: ['wasm'],
  });
  const bytes = readFileSync(pictures);
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const size = shape.reduce((a, b) => a * b, 1);
  const found = [];
  for (let start = 0; start < values.length; start += size) {
    const picture = new ort.Tensor('float32', values.slice(start, start + size), [1, ...shape]);
    const outputs = await session.run({ [session.inputNames[0]]: picture });
    found.push(Array.from(outputs[session.outputNames[0]].data));
  }
  await session.release();
  return found;
}

const found = [];
for (const job of JSON.parse(readFileSync(0, 'utf8'))) found.push(await answers(job));
process.stdout.write(JSON.stringify(found) + '\n');
