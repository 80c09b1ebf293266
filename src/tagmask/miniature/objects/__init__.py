"""All classes of objects of the miniature world, in the order of their indices."""

from tagmask.miniature.objects import home, nature, play, travel
from tagmask.miniature.objects.classes import ObjectClass

__all__ = ["CLASSES"]

CLASSES: tuple[ObjectClass, ...] = (*nature.CLASSES, *travel.CLASSES, *home.CLASSES, *play.CLASSES)
