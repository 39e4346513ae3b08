"""Tables of the food domain."""

from __future__ import annotations

from tl_jax.data.synthetic.spec import Chain, Domain, service

FOOD = Domain(
    "food",
    (
        service(
            "search_recipe",
            "Find a recipe of a dish.",
            ["dish dish dish name", "vegan? bool vegan wish"],
            requests=[
                "find a recipe[ for {dish}|]",
                "search a recipe of {dish}",
                "look up how {dish} is made",
                "find me a good {dish} recipe",
                "look for cooking instructions[ for {dish}|]",
            ],
            questions=[
                "Do you have a recipe[ for {dish}|]",
                "Which recipe makes {dish}",
                "Is there a way to cook [{dish}|my dish]",
            ],
            options={
                "vegan": ("that is vegan", "in a vegan version"),
                "!vegan": ("that is not vegan", "in a version that is not vegan"),
            },
            output={"recipe_id": "code", "stars": "int:1-5"},
        ),
        service(
            "search_recipe_by_ingredients",
            "Find a recipe for what is in the kitchen.",
            ["ingredients list:ingredient list of ingredients"],
            requests=[
                "find a recipe that uses {ingredients}",
                "search a dish with {ingredients}",
                "look for something to cook from [{ingredients}|what I have]",
                "find out what I can make with [{ingredients}|my leftovers]",
                "look for a meal made of [{ingredients}|what is in my fridge]",
            ],
            questions=[
                "What can I cook with {ingredients}",
                "Which recipe uses {ingredients}",
                "What meal can be made from [{ingredients}|my leftovers]",
            ],
            output={"recipe_id": "code", "dish": "dish"},
        ),
        service(
            "get_recipe_steps",
            "Show the steps of a recipe.",
            ["recipe_id code recipe code", "servings? int:1-12 number of servings"],
            requests=[
                "show the steps of [recipe {recipe_id}|the recipe]",
                "get the cooking steps for {recipe_id}",
                "read me the instructions of [recipe {recipe_id}|my recipe]",
                "look up how to cook recipe {recipe_id}",
                "walk me through the steps of [{recipe_id}|the recipe]",
            ],
            questions=[
                "What are the steps of [recipe {recipe_id}|the recipe]",
                "How do I cook recipe {recipe_id}",
                "How is [recipe {recipe_id}|the recipe] cooked, step by step",
            ],
            options={"servings": ("for {servings} servings", "scaled to {servings} servings")},
            output={"steps": "int:3-15", "minutes": "int:10-180"},
        ),
        service(
            "get_recipe_calories",
            "Count the calories of a recipe.",
            ["recipe_id code recipe code"],
            requests=[
                "count the calories of [recipe {recipe_id}|the recipe]",
                "get the calories for {recipe_id}",
                "check how many calories [recipe {recipe_id}|my recipe] has",
                "look up the energy of recipe {recipe_id}",
                "find out how heavy in calories [{recipe_id}|the recipe] is",
            ],
            questions=[
                "How many calories does [recipe {recipe_id}|the recipe] have",
                "What are the calories of {recipe_id}",
                "Is [recipe {recipe_id}|my recipe] high in calories",
            ],
            output={"calories": "int:90-980", "protein": "int:2-60"},
        ),
        service(
            "search_restaurant",
            "Find a restaurant in a city.",
            ["city city city name", "cuisine? cuisine style of food"],
            requests=[
                "find a restaurant[ in {city}|]",
                "search a place to eat in {city}",
                "look for somewhere to have dinner[ in {city}|]",
                "find me a good restaurant in {city}",
                "look up where to eat[ in {city}|]",
            ],
            questions=[
                "Where can I eat[ in {city}|]",
                "Which restaurants are there in {city}",
                "Where should I have dinner[ in {city}|]",
            ],
            options={"cuisine": ("with {cuisine} food", "serving {cuisine} food")},
            output={"restaurant": "place", "stars": "int:1-5"},
        ),
        service(
            "reserve_table",
            "Reserve a table in a restaurant.",
            [
                "restaurant place restaurant name",
                "guests int:1-12 number of guests",
                "time? time arrival time",
            ],
            requests=[
                "reserve a table for {guests}[ at {restaurant}|]",
                "book a table at {restaurant} for {guests} people",
                "get us a table for {guests} at the {restaurant}",
                "keep a table at {restaurant} for {guests} guests",
                "hold a table for {guests} people[ at {restaurant}|]",
            ],
            questions=[
                "Could you reserve a table for {guests}[ at {restaurant}|]",
                "Can we have a table for {guests} at {restaurant}",
                "Does [the {restaurant}|the place] have a table for {guests}",
            ],
            options={"time": ("at {time}", "for {time}")},
            output={"table": "int:1-60", "code": "code"},
        ),
        service(
            "order_meal",
            "Order a dish from a restaurant.",
            [
                "restaurant place restaurant name",
                "dish dish dish name",
                "portions? int:1-9 number of portions",
            ],
            requests=[
                "order {dish} from {restaurant}",
                "get me {dish}[ from the {restaurant}|]",
                "have {dish} delivered from {restaurant}",
                "order the {dish} at {restaurant}",
                "bring me {dish}[ from {restaurant}|]",
            ],
            questions=[
                "Could I order {dish}[ from {restaurant}|]",
                "Can {restaurant} deliver {dish}",
                "Can I have {dish} brought[ from {restaurant}|]",
            ],
            options={"portions": ("for {portions} people", "in {portions} portions")},
            output={"order_id": "code", "minutes": "int:10-90"},
        ),
    ),
    (
        Chain(
            "search_recipe",
            "recipe_id",
            "get_recipe_steps",
            "recipe_id",
            (
                "show me its steps",
                "get the cooking steps",
                "read me the instructions",
                "walk me through the steps",
            ),
        ),
        Chain(
            "search_recipe_by_ingredients",
            "recipe_id",
            "get_recipe_calories",
            "recipe_id",
            (
                "count its calories",
                "tell me how many calories it has",
                "get the calories of it",
                "check how heavy in calories it is",
            ),
        ),
        Chain(
            "search_restaurant",
            "restaurant",
            "reserve_table",
            "restaurant",
            (
                "reserve a table for {guests}",
                "book a table there for {guests} people",
                "get us a table for {guests}",
                "hold a table for {guests} guests",
            ),
        ),
        Chain(
            "search_restaurant",
            "restaurant",
            "order_meal",
            "restaurant",
            (
                "order {dish} there",
                "get me {dish} from it",
                "have {dish} delivered from there",
                "bring me {dish} from it",
            ),
        ),
    ),
)
