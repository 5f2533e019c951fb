/** SQL of resource presets. */
import { asc, eq, sql } from 'drizzle-orm';
import { defaultPresets, type ResourcePreset } from '../../../schema/api/preset.ts';
import { resourcePresets } from '../../../schema/db/jupyter.ts';
import type { Database, Write } from '../../platform/database.ts';

export type PresetRow = typeof resourcePresets.$inferSelect;

/** Presets that there may be; they become the kernelspecs of every image. */
export const maxPresets = 64;
/** With those of the default ones that were taken away. */
const maxRows = maxPresets + defaultPresets.length;

export function listPresetRows(db: Database): Promise<PresetRow[]> {
  return db.select().from(resourcePresets).orderBy(asc(resourcePresets.name)).limit(maxRows);
}

/** Null: a default one is taken away. */
export async function putPresetRow(
  write: Write,
  name: string,
  resources: ResourcePreset['resources'] | null,
): Promise<void> {
  const text = resources === null ? null : JSON.stringify(resources);
  await write([
    sql`INSERT INTO resource_presets (name, resources) VALUES (${name}, ${text})
      ON CONFLICT (name) DO UPDATE SET resources = excluded.resources`,
  ]);
}

export async function deletePresetRow(db: Database, write: Write, name: string): Promise<void> {
  await write([db.delete(resourcePresets).where(eq(resourcePresets.name, name)).getSQL()]);
}
