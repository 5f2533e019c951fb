/** Resource presets: amounts under a name, as people choose them. */
import { z } from 'zod';
import { EntityName } from './account.ts';
import { ResourceRequest } from './session.ts';

export const ResourcePreset = z.object({ name: EntityName, resources: ResourceRequest }).meta({ id: 'ResourcePreset' });
export type ResourcePreset = z.infer<typeof ResourcePreset>;
export const ResourcePresetList = z.object({ items: z.array(ResourcePreset) }).meta({ id: 'ResourcePresetList' });

export const PutResourcePreset = z.strictObject({ resources: ResourceRequest }).meta({ id: 'PutResourcePreset' });
export const PresetParams = z.strictObject({ name: EntityName });

/** Those that are there until an administrator says otherwise, the smallest first. */
export const defaultPresets: readonly ResourcePreset[] = [
  { name: 'small', resources: { cpu: 1, mem: '2g' } },
  { name: 'large', resources: { cpu: 4, mem: '8g' } },
  { name: 'gpu', resources: { cpu: 4, mem: '16g', 'cuda.device': 1 } },
];
