/** Object storage in a bucket of R2. */
import type { Blobs } from './blobs-port.ts';
import { readBytes } from './bounded.ts';

/** The bucket as `Blobs`. */
export function r2Blobs(bucket: R2Bucket): Blobs {
  return {
    create: async (key, bytes, notes) => {
      const onlyIf = new Headers({ 'if-none-match': '*' });
      return (await bucket.put(key, bytes, { onlyIf, customMetadata: { ...notes } })) !== null;
    },
    notesOf: async (key) => {
      const found = await bucket.head(key);
      return found === null ? undefined : (found.customMetadata ?? {});
    },
    read: async (key, mostBytes) => {
      const body = (await bucket.get(key))?.body as ReadableStream<Uint8Array> | undefined;
      return body && readBytes(body, mostBytes);
    },
    list: async (prefix, { cursor, delimiter, notes = true } = {}) => {
      const page = await bucket.list({
        prefix,
        include: notes ? ['customMetadata'] : [],
        ...(cursor === undefined ? {} : { cursor }),
        ...(delimiter === undefined ? {} : { delimiter }),
      });
      return {
        entries: page.objects.map(({ key, customMetadata }) => ({ key, notes: customMetadata ?? {} })),
        folders: page.delimitedPrefixes,
        next: page.truncated ? page.cursor : undefined,
      };
    },
    remove: async (keys) => {
      if (keys.length > 0) await bucket.delete([...keys]);
    },
  };
}
