/** `npm run generate-keys`: what `rollcall keygen` does, where `rollcall` is not on the path. */
import { generateKeys } from '../src/cli/keygen.js';

process.exitCode = await generateKeys(process.argv.slice(2), {
  print: text => process.stdout.write(text),
  complain: text => process.stderr.write(text),
});
