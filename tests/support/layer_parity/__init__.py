"""Tables of layer calls that Paddle 1.8.5 and fluidc must agree on, by group."""

from . import boxes, elementwise, images, networks, odds, reductions, refused, shapes, volumes

GROUPS = {
    "elementwise": elementwise.TABLE,
    "reductions": reductions.TABLE,
    "shapes": shapes.TABLE,
    "networks": networks.TABLE,
    "images": images.TABLE,
    "volumes": volumes.TABLE,
    "boxes": boxes.TABLE,
    "odds": odds.TABLE,
}
REFUSED = refused.TABLE
