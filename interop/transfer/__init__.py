"""Weights moved between models of any frameworks, with proof.

================  =====================================================================================
``models``        a model as named tensors and, maybe, a graph; ``files`` and ``traced`` files as such; ``inputs``
                  gives both the same sizes
``loops/``        loops become recurrent layers, or their steps; ``arithmetic`` has one form of what has several, and
                  ``sums`` one of sums of products
``reading``       a graph as a skeleton: each use of parameters, and which feeds which; ``ops/`` a file a family
``alignment``     two skeletons side by side
``otherwise``     where parameters are left: recurrent layers as steps, ``lookups`` at usual places, sums and joined
                  products in parts, and what parameters make together in their place: ``composites/``
``matching``      the plan from that, with ``joins`` in one order, and what is ``leftover``; ``rules`` of a user go
                  before; ``rows`` go with others
``plan``          what becomes of each tensor, in ``pieces``: ``printed`` as a table, JSON, applied, turned around
``proof``         both graphs run with the same drawn weights in one ``precision``, which is a ``trial``;
                  ``differences`` are named, and ``setting_aside`` shows that they explain how the models depart
================  =====================================================================================
"""

from __future__ import annotations

from interop.transfer.plan import Plan
from interop.transfer.rules import Rule
from interop.transfer.verbs import TransferReport, match, transfer_weights

__all__ = ["Plan", "Rule", "TransferReport", "match", "transfer_weights"]
