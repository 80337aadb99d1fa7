"""Papers: a referral slip and a doctor's prescription, each as a page that prints and as a PDF; what a slip says.

What stands on them `printing.composing` says, once for both. A PDF is shown in the browser and kept by nobody; its name
has nothing of a patient.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from hwc_node.printing import codes, composing, making
from hwc_node.printing.paper import SIZES, Paper, Size
from hwc_node.web.desk import AtWork, Desk
from sync_protocol.pages import language

PDF: Final = "application/pdf"

router = APIRouter()


@router.get("/referrals/{name}/slip")
def slip_page(desk: AtWork, name: str) -> Response:
    return _page(desk, _slip(desk, name), name)


@router.get("/referrals/{name}/slip/pdf")
def slip_pdf(desk: AtWork, name: str) -> Response:
    return _pdf(desk, _slip(desk, name))


@router.get("/referrals/{name}/prescription/{reply}")
def prescription_page(desk: AtWork, name: str, reply: str) -> Response:
    return _page(desk, _prescription(desk, name, reply), name)


@router.get("/referrals/{name}/prescription/{reply}/pdf")
def prescription_pdf(desk: AtWork, name: str, reply: str) -> Response:
    return _pdf(desk, _prescription(desk, name, reply))


def _slip(desk: Desk, name: str) -> Paper:
    with language.speaking(desk.words):
        return composing.referral_slip(desk.store, desk.clinic, name, desk.now_ms)


def _prescription(desk: Desk, name: str, reply: str) -> Paper:
    with language.speaking(desk.words):
        return composing.prescription(desk.store, desk.clinic, name, reply, desk.now_ms)


def _page(desk: Desk, paper: Paper, name: str) -> Response:
    return desk.page("paper", paper=paper, name=name, sizes=SIZES, code_svg=codes.svg)


def _pdf(desk: Desk, paper: Paper) -> Response:
    headers = {"content-disposition": f'inline; filename="{paper.file_name}.pdf"'}
    return Response(making.pdf(paper, _size(desk)), media_type=PDF, headers=headers)


def _size(desk: Desk) -> Size:
    """Of the paper in the printer, as the address asks for it."""
    wanted = desk.request.query_params.get("size", "")
    return next((size for size in SIZES if size == wanted), SIZES[0])
