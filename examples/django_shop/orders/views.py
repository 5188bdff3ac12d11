from django import forms
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from orderflow_outbox import IdempotencyConflict, InvalidMessage

from .models import Order
from .placing import place_order


class NewOrder(forms.Form):
    number = forms.CharField(max_length=64)
    sku = forms.CharField(max_length=64)
    quantity = forms.IntegerField(min_value=1)


@csrf_exempt  # for curl; a shop's own pages send a token
@require_POST
def orders(request: HttpRequest) -> JsonResponse:
    form = NewOrder(request.POST)
    if not form.is_valid():
        return JsonResponse({"detail": form.errors}, status=422)
    order = Order(**form.cleaned_data)
    try:
        message = place_order(order)
    except IdempotencyConflict as error:
        return JsonResponse({"detail": str(error), "message": error.message_id}, status=409)
    except InvalidMessage as error:
        return JsonResponse({"detail": {error.field: error.fix}}, status=422)
    return JsonResponse({"number": order.number, "message": message.id}, status=201)
