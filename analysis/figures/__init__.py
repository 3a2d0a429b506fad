"""One module per kind of figure; styles, layout, legends and captions beside them."""
