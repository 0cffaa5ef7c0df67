"""What archives have in common that anybody may ask, and that give their documents page by page."""
