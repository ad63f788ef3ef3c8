"""A page on this machine that shows what mounts and jobs do, and settles conflicts. For one user alone.

`http.py` speaks HTTP, `guard.py` decides who may ask, `page.py` answers. The page itself is `page.html`,
`style.css` and `script.js`; it loads nothing from anywhere else.
"""
