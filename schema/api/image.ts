/** Images that the agents of a project's resource groups hold, merged by content. */
import { z } from 'zod';

const count = z.int().nonnegative();
export const Image = z
  .object({
    digest: z.string(),
    names: z.array(z.string()),
    sizeBytes: count,
    /** How many connected agents hold it. */
    agents: count,
  })
  .meta({ id: 'Image' });
export type Image = z.infer<typeof Image>;
/** `GET /v1/images` */
export const ImageList = z.object({ items: z.array(Image) }).meta({ id: 'ImageList' });
