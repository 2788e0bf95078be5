"""Pages and panels for notebooks and Voila: each reads plain data of the library and calls one function of it."""

from guardianflow._imports import require

for _name in ("ipywidgets", "anywidget"):
    require(_name, extra="lab", purpose="the panels")
