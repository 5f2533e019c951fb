/** HTTP of images. */
import { ImageList } from '../../../schema/api/image.ts';
import { reply, route, slice } from '../../http/slice.ts';
import { listImages } from './service.ts';

export const images = slice('images', [
  route(
    {
      method: 'get',
      path: '/v1/images',
      summary: 'Images that connected agents hold.',
      permission: 'project:read',
      responses: { 200: { description: 'The images.', schema: ImageList } },
    },
    async (ctx) => reply(200, { items: await listImages(ctx) }),
  ),
]);
