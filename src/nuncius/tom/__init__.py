"""nuncius inside a TOM: one Django app for the TOM Toolkit, with every service of ours.

``INSTALLED_APPS += ["nuncius.tom"]`` is all. The app then offers, in the Toolkit's own pages, an archive of alerts,
Kowalski, BOOM, ANTARES, Pitt-Google and any other stream: forms, results with pictures, targets with light curves and
cutouts, updates of existing targets. Beside it there are a worker that fills the archive (``manage.py nuncius_ingest``),
stream classes for tom-alertstreams (`nuncius.tom.alertstreams`) and the older broker interface (`nuncius.tom.legacy`).

The TOM Toolkit is free software under version 3 of the GNU General Public License. nuncius itself is not, and imports
nothing of the Toolkit outside of this package; a project that runs this app runs it inside the Toolkit, and what is
passed on together with it has to heed that license.
"""
