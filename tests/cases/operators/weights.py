"""Operators with weights that are a layer of their own."""

from __future__ import annotations

from cases.operators import OnnxCase, normal
from cases.ops import x

CASES = [
    OnnxCase("Gather", (normal(7, 4), x("b", dtype="int32", low=0, high=3)), {"axis": 1}, variant="columns"),
    OnnxCase("PRelu", (x("b", 4, "h"), normal(4, 1)), variant="channels", lifted="PReLU"),
    OnnxCase("PRelu", (x("b", 4, "h"), normal(1)), variant="one", lifted="PReLU"),
    OnnxCase("PRelu", (x("b", 4, 3), normal(3)), variant="last axis"),
    *[
        OnnxCase("Einsum", given, {"equation": equation}, variant=equation, lifted=kind)
        for equation, given, kind in (
            ("btf,fhd->bthd", (x("b", "t", 4), normal(4, 2, 3)), "EinsumDense"),
            ("btf,fhd->bhtd", (x("b", "t", 4), normal(4, 2, 3)), "EinsumDense"),
            ("hdf,bthd->btf", (normal(2, 3, 4), x("b", "t", 2, 3)), "EinsumDense"),
            ("btf, cf -> btc", (x("b", "t", 4), normal(5, 4)), "Dense"),
            ("...f,fc->...c", (x("b", "t", 4), normal(4, 5)), "Dense"),
            ("bgf,gfc->bgc", (x("b", 3, 4), normal(3, 4, 5)), "EinsumDense"),
            ("btf,fc->tbc", (x("b", "t", 4), normal(4, 5)), ""),
            ("btf,tg->bfg", (x("b", 3, 4), normal(3, 5)), "EinsumDense"),
        )
    ],
]
