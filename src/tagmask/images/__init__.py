"""Image input: any common image becomes upright RGB, or an error that says why not.

    source --header--> limits --decode--> PIL image, first frame --flatten--> upright RGB (h, w, 3) uint8

Files are not trusted. The header is read first, by the code here: it gives the size and the orientation, and
what would cost more than the limits is refused before it is decoded (`limits`). Where the format allows it,
Pillow gets only the parts of the file that the pixels depend on.

16-bit grey is scaled, never clipped; transparency is composited on white. Colour profiles are not applied.
"""

from tagmask.images.reading import ImageSource, decode, image_orientation, image_size, read_image

__all__ = ["ImageSource", "decode", "image_orientation", "image_size", "read_image"]
