/** `npm run generate-certs`: what `rollcall certs` does, where `rollcall` is not on the path. */
import { generateCertificates } from '../src/cli/certs.js';

process.exitCode = await generateCertificates(process.argv.slice(2), {
  print: text => process.stdout.write(text),
  complain: text => process.stderr.write(text),
});
