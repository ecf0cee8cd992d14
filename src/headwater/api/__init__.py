"""The RPCs: one servicer per service. Each authenticates, decodes, calls one domain function, and encodes.

No rules live here. Errors are raised as `headwater.base.errors` and become answers in one place, the interceptor.
"""

from headwater.api.interceptor import AnswerInterceptor
from headwater.api.register import ERROR_BODIES, LENIENT_SERVICES, Services, register, register_protocols

__all__ = ["ERROR_BODIES", "LENIENT_SERVICES", "AnswerInterceptor", "Services", "register", "register_protocols"]
