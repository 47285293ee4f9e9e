"""Choose the vertices that landmarks are on, and write `anchors.json` beside this file.

pip install -e .[people] && python assets_data/people/build_anchors.py
"""

from posefactory_dagster.people import anchors
from posefactory_dagster.people.body import BodyModel

if __name__ == "__main__":
    anchors.save(anchors.build(BodyModel()))
    print(anchors.FILE)
