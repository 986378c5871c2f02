/** A writer of DER that can write what no honest writer would. */

/** An element of parts that are DER already, or of bytes. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const digits = content.length.toString(16);
  const long = hex(digits.length % 2 === 0 ? digits : `0${digits}`);
  const length = content.length < 0x80 ? Buffer.of(content.length) : Buffer.of(0x80 | long.length, ...long);
  return Buffer.concat([Buffer.of(tag), length, content]);
}

export function sequence(...parts: readonly Uint8Array[]): Buffer {
  return der(0x30, ...parts);
}

export function hex(digits: string): Buffer {
  return Buffer.from(digits, 'hex');
}

export const ecdsaSha256 = hex('300a06082a8648ce3d040302');

/** A name that is a common name and nothing else. */
export function commonName(text: string): Buffer {
  return sequence(der(0x31, sequence(hex('0603550403'), der(0x0c, Buffer.from(text)))));
}

export function utcTime(at: number): Buffer {
  const digits = new Date(at).toISOString().replaceAll(/[-:T]/g, '').slice(2, 14);
  return der(0x17, Buffer.from(`${digits}Z`));
}

/** Of a certificate: the one whose identifier under id-ce (2.5.29) is `last`. */
export function extension(last: number, value: Uint8Array, critical = false): Buffer {
  return sequence(Buffer.of(6, 3, 0x55, 0x1d, last), ...(critical ? [hex('0101ff')] : []), der(0x04, value));
}
