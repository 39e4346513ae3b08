"""Tables of the shop domain."""

from __future__ import annotations

from tl_jax.data.synthetic.spec import Chain, Domain, service

SHOP = Domain(
    "shop",
    (
        service(
            "search_product",
            "Find a product in the shop.",
            ["item item product name", "max_price? int:5-300 highest price"],
            requests=[
                "find a {item}",
                "search the shop for a {item}",
                "look for [a {item}|something nice] in the shop",
                "find me a {item} to buy",
                "look up [a {item}|a product] in the catalogue",
            ],
            questions=[
                "Do you sell a {item}",
                "Is there a {item} in the shop",
                "Does the shop have [a {item}|the thing I want]",
            ],
            options={"max_price": ("below {max_price}", "for at most {max_price}")},
            output={"product_id": "code", "price": "amount"},
        ),
        service(
            "search_product_by_brand",
            "Find a product of a brand.",
            ["brand brand brand name", "item item product name"],
            requests=[
                "find a {item} made by {brand}",
                "search for a {brand} {item}",
                "look for a {item} of the brand {brand}",
                "find me [a {item}|something] from {brand}",
                "look up [a {item}|a product] by {brand}",
            ],
            questions=[
                "Do you sell a {item} by {brand}",
                "Is there a {brand} {item}",
                "Does {brand} make [a {item}|the thing I want]",
            ],
            output={"product_id": "code", "price": "amount"},
        ),
        service(
            "get_product_stock",
            "Count how many pieces of a product are left.",
            ["product_id code product code"],
            requests=[
                "check the stock of [product {product_id}|the product]",
                "count the pieces left of {product_id}",
                "see if [product {product_id}|the product] is in stock",
                "look up how many of {product_id} remain",
                "find out how many pieces of [{product_id}|the product] you still have",
            ],
            questions=[
                "Is [product {product_id}|the product] in stock",
                "How many of {product_id} are left",
                "How many pieces remain of [{product_id}|the product]",
            ],
            output={"pieces": "int:0-250", "shelf": "gate"},
        ),
        service(
            "get_order_status",
            "Tell where an order is.",
            ["order_id code order number"],
            requests=[
                "check the status of [order {order_id}|my order]",
                "track [order {order_id}|my order]",
                "find out where my parcel {order_id} is",
                "see if order {order_id} has been shipped",
                "check when [order {order_id}|my parcel] arrives",
            ],
            questions=[
                "Where is [order {order_id}|my order]",
                "Has order {order_id} been shipped",
                "When will [order {order_id}|my parcel] arrive",
            ],
            output={"state": "enum:packed,shipped,delivered,on hold", "arrival": "date"},
        ),
        service(
            "get_order_invoice",
            "Send the bill of an order.",
            ["order_id code order number", "format? enum:pdf,html,paper file format"],
            requests=[
                "get the invoice of [order {order_id}|my order]",
                "send me the bill for {order_id}",
                "find the invoice for [{order_id}|my purchase]",
                "look up the bill of order {order_id}",
                "fetch the bill for [order {order_id}|my order]",
            ],
            questions=[
                "Can I have the invoice of [order {order_id}|my order]",
                "Where is the bill for {order_id}",
                "Could I get the bill of [order {order_id}|my purchase]",
            ],
            options={"format": ("as {format}", "in {format} format")},
            output={"invoice": "code", "total": "amount"},
        ),
        service(
            "cancel_order",
            "Cancel a whole order.",
            ["order_id code order number", "reason? enum:too_late,wrong_size,too_costly reason"],
            requests=[
                "cancel [order {order_id}|my order]",
                "cancel everything in order {order_id}",
                "stop [order {order_id}|my order]",
                "call off the order {order_id}",
                "drop [the whole order {order_id}|my whole order]",
            ],
            questions=[
                "Can I cancel [order {order_id}|my order]",
                "Could order {order_id} be cancelled",
                "Is it possible to stop [order {order_id}|my order]",
            ],
            options={"reason": ("because it is {reason}", "since it is {reason}")},
            output={"refund": "amount", "receipt": "code"},
        ),
        service(
            "cancel_order_item",
            "Remove one item from an order.",
            ["order_id code order number", "item item product name"],
            requests=[
                "remove the {item} from [order {order_id}|my order]",
                "cancel only the {item} in order {order_id}",
                "take the {item} out of [order {order_id}|my order]",
                "drop the {item} from order {order_id}",
                "delete just the {item} in [order {order_id}|my order]",
            ],
            questions=[
                "Can I remove the {item} from [order {order_id}|my order]",
                "Could the {item} be taken out of {order_id}",
                "Is it possible to drop the {item} from [order {order_id}|my order]",
            ],
            output={"refund": "amount", "left": "int:1-9"},
        ),
        service(
            "add_to_cart",
            "Put a product into the cart.",
            ["product_id code product code", "quantity int:1-12 number of pieces"],
            requests=[
                "add {quantity} pieces of [{product_id}|the product] to my cart",
                "put {quantity} of product {product_id} into the cart",
                "add product {product_id} to the basket, {quantity} pieces",
                "place {quantity} units of {product_id} in my cart",
                "drop {quantity} pieces of [product {product_id}|the product] into the basket",
            ],
            questions=[
                "Can you put {quantity} pieces of [{product_id}|the product] into my cart",
                "Could I have {quantity} of {product_id} in the cart",
                "May I add {quantity} pieces of [product {product_id}|the product] to the basket",
            ],
            output={"cart_total": "amount", "items": "int:1-20"},
        ),
    ),
    (
        Chain(
            "search_product",
            "product_id",
            "get_product_stock",
            "product_id",
            (
                "check if it is in stock",
                "count how many are left",
                "tell me its stock",
                "see how many pieces you have",
            ),
        ),
        Chain(
            "search_product_by_brand",
            "product_id",
            "add_to_cart",
            "product_id",
            (
                "add {quantity} pieces to my cart",
                "put {quantity} of it into the cart",
                "place {quantity} units in the basket",
                "drop {quantity} pieces into my cart",
            ),
        ),
    ),
)
