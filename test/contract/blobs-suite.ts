/** What every object storage has to do, whichever protocol it speaks. */
import { expect, it } from 'vitest';
import type { Blobs } from '../../edge/platform/blobs-port.ts';

const bytes = (text: string) => new TextEncoder().encode(text);

/** `make` gives one that is empty, as often as it is asked. `page`: how many objects it lists at once; 0: not looked at. */
export function itIsObjectStorage(make: () => Promise<Blobs>, page: number): void {
  it('creates an object once, and leaves it as it is', async () => {
    const blobs = await make();
    expect(await blobs.create('logs/a/1', bytes('one'), { first: '12', sha256: 'f00' })).toBe(true);
    expect(await blobs.create('logs/a/1', bytes('two'), { first: '13' })).toBe(false);
    expect(await blobs.notesOf('logs/a/1')).toEqual({ first: '12', sha256: 'f00' });
    expect(await blobs.read('logs/a/1', 100)).toEqual(bytes('one'));
    expect(await blobs.create('logs/a/0', new Uint8Array(0), {})).toBe(true);
    expect(await blobs.read('logs/a/0', 100)).toEqual(new Uint8Array(0));
    expect(await blobs.notesOf('logs/a/0')).toEqual({});
  });

  it('gives back any bytes, and nothing above what may be read', async () => {
    const blobs = await make();
    const large = crypto.getRandomValues(new Uint8Array(60_000));
    await blobs.create('logs/large', large, {});
    expect(await blobs.read('logs/large', 60_000)).toEqual(large);
    expect(await blobs.read('logs/large', 59_999)).toBeUndefined();
    expect(await blobs.read('logs/none', 10)).toBeUndefined();
    expect(await blobs.notesOf('logs/none')).toBeUndefined();
  });

  it('lists what begins so in order, with notes, or folders up to a delimiter', async () => {
    const blobs = await make();
    const keys = ['logs/s1/1/main/end', 'logs/s1/1/main/stdout/0-9', 'logs/s1/10/x y&<z>+é/end', 'logs/s2/1/main/end'];
    for (const key of keys.toReversed()) await blobs.create(key, bytes(key), { of: String(keys.indexOf(key)) });
    const { entries, folders, next } = await blobs.list('logs/s1/');
    expect(entries).toEqual(keys.slice(0, 3).map((key, at) => ({ key, notes: { of: String(at) } })));
    expect([folders, next]).toEqual([[], undefined]);
    const bare = await blobs.list('logs/s1/1/', { notes: false });
    expect(bare.entries).toEqual(keys.slice(0, 2).map((key) => ({ key, notes: {} })));
    expect(await blobs.list('logs/s1/', { delimiter: '/' })).toMatchObject({
      entries: [],
      folders: ['logs/s1/1/', 'logs/s1/10/'],
    });
    expect(await blobs.list('logs/s3/')).toEqual({ entries: [], folders: [], next: undefined });
    expect(await blobs.read(keys[2]!, 100)).toEqual(bytes(keys[2]!));
  });

  it.runIf(page > 0)('lists and removes more than a page', async () => {
    const blobs = await make();
    const keys = Array.from({ length: page + 3 }, (_, at) => `logs/many/${String(at).padStart(4, '0')}`);
    for (let at = 0; at < keys.length; at += 20)
      await Promise.all(keys.slice(at, at + 20).map((key) => blobs.create(key, bytes(key), {})));
    const found: string[] = [];
    let cursor: string | undefined;
    do {
      const { entries, next } = await blobs.list('logs/many/', { cursor, notes: false });
      expect(entries.length).toBeLessThanOrEqual(page);
      found.push(...entries.map(({ key }) => key));
      cursor = next;
    } while (cursor !== undefined);
    expect(found).toEqual(keys);
    await blobs.remove([]);
    await blobs.remove([...keys.slice(0, page - 1), 'logs/many/none']);
    expect((await blobs.list('logs/many/', { notes: false })).entries.map(({ key }) => key)).toEqual(
      keys.slice(page - 1),
    );
  });
}
