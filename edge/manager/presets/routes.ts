/** HTTP of resource presets. */
import { PresetParams, PutResourcePreset, ResourcePreset, ResourcePresetList } from '../../../schema/api/preset.ts';
import { reply, route, slice } from '../../http/slice.ts';
import { deletePreset, listPresets, putPreset } from './service.ts';

export const presets = slice('presets', [
  route(
    {
      method: 'get',
      path: '/v1/resource-presets',
      summary: 'Amounts of resources under a name, as the kernels of the Jupyter gateway offer them.',
      permission: 'project:read',
      responses: { 200: { description: 'All of them.', schema: ResourcePresetList } },
    },
    async (ctx) => reply(200, { items: await listPresets(ctx) }),
  ),
  route(
    {
      method: 'put',
      path: '/v1/resource-presets/{name}',
      summary: 'Sets a resource preset.',
      permission: 'superadmin',
      request: { params: PresetParams, body: PutResourcePreset },
      responses: { 200: { description: 'Set.', schema: ResourcePreset } },
      errors: ['preset_limit'],
    },
    async (ctx, { params, body }) => reply(200, await putPreset(ctx, { ...params, ...body })),
  ),
  route(
    {
      method: 'delete',
      path: '/v1/resource-presets/{name}',
      summary: 'Takes a resource preset away, a default one too.',
      permission: 'superadmin',
      request: { params: PresetParams },
      responses: { 204: { description: 'It is no longer offered.' } },
      errors: ['preset_not_found'],
    },
    async (ctx, { params }) => {
      await deletePreset(ctx, params.name);
      return reply(204);
    },
  ),
]);
