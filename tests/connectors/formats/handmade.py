"""Workbooks of Excel that are made of their XML."""

import io
import zipfile
from typing import Final

MAIN: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def by_hand(rows: str, *, texts: str = "", sheet: str = "Sheet", namespace: str = MAIN, **parts: str) -> bytes:
    """Return a workbook whose sheet has these rows, in XML. `parts` replace other files, by their last name."""
    found = {
        "_rels/.rels": f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r" Type="{RELATIONS}/officeDocument" Target="/xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{namespace}" xmlns:r="{RELATIONS}"><sheets>'
        f'<sheet name="{sheet}" sheetId="1" r:id="s"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="s" Type="{RELATIONS}/worksheet" Target="worksheets/one.xml"/>'
        f'<Relationship Id="t" Type="{RELATIONS}/sharedStrings" Target="texts.xml"/></Relationships>',
        "xl/worksheets/one.xml": f'<worksheet xmlns="{namespace}"><sheetData>{rows}</sheetData></worksheet>',
        "xl/texts.xml": f'<sst xmlns="{namespace}">{texts}</sst>',
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in found.items():
            archive.writestr(path, parts.get(path.rpartition("/")[2].partition(".")[0], content))
    return stream.getvalue()
