"""CLIP-ES's texts for PASCAL VOC."""

from tagmask.clip.load import Clip
from tagmask.dense.prompts import text_features
from tagmask.papers.clip_es import ClassTexts

TEMPLATE = ("a clean origami {}.",)

# A plus stands for the comma within a prompt.
FOREGROUND = (
    "aeroplane,bicycle,bird avian,boat,bottle,bus,car,cat,chair seat,cow,diningtable,dog,horse,motorbike,"
    "person with clothes+people+human,pottedplant,sheep,sofa,train,tvmonitor screen"
)

BACKGROUND = (
    "ground,land,grass,tree,building,wall,sky,lake,water,river,sea,railway,railroad,keyboard,helmet,cloud,"
    "house,mountain,ocean,road,rock,street,valley,bridge,sign"
)


def class_texts(clip: Clip) -> ClassTexts:
    foreground = [name.replace("+", ",") for name in FOREGROUND.split(",")]
    return ClassTexts(
        text_features(clip, foreground, TEMPLATE), text_features(clip, BACKGROUND.split(","), TEMPLATE)
    )
